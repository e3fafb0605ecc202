# jaxrl in a container, on CPUs or with EXTRAS=cuda12 or cuda13 on NVIDIA's GPUs:
#
#     docker build -t jaxrl .
#     docker run --rm -v "$PWD/runs:/home/jaxrl/runs" jaxrl train ppo --env CartPole-v1
#
#     docker build -t jaxrl:cuda --build-arg EXTRAS=cuda13 .
#     docker run --rm --gpus all -v "$PWD/runs:/home/jaxrl/runs" jaxrl:cuda train ppo --env CartPole-v1 --num-envs 4096
#
# The mounted folder has to be writable by the user 1000, or by the one of `docker run --user`.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels /source

FROM python:${PYTHON}-slim
ARG EXTRAS=""
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir -c /constraints.txt "$(echo /wheels/jaxrl-*.whl)${EXTRAS:+[$EXTRAS]}"
RUN useradd --create-home --uid 1000 jaxrl && mkdir /home/jaxrl/runs && chown jaxrl /home/jaxrl/runs
USER jaxrl
WORKDIR /home/jaxrl
ENTRYPOINT ["jaxrl"]
CMD ["--help"]
