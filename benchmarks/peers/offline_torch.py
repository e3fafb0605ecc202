"""OFQL and Diffusion-QL in PyTorch, one gradient step after the other, as one would write them.

Networks, losses, optimisers and targets are jaxrl's. Before anything is timed, the losses of one
batch are computed with the parameters and random numbers of `benchmarks.peers.offline_reference`,
and must be those that jaxrl has found, to a relative 1e-4.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from benchmarks.peers.offline_data import ACTIONS, OBSERVATION, next_observations, rows
from benchmarks.peers.one_core import keep_to_one_core
from benchmarks.peers.protocol import Variant, serve

# Gradient steps of one iteration.
UPDATES = 20
TOLERANCE = 1e-4
GAMMA, TAU, EMA, EMA_INTERVAL, LEARNING_RATE = 0.99, 0.005, 0.995, 5, 3e-4


def mlp(width_in: int, hidden: list[int], width_out: int) -> Any:
    """Linear layers with Mish between them."""
    import torch

    layers: list[Any] = []
    for width in hidden:
        layers += [torch.nn.Linear(width_in, width), torch.nn.Mish()]
        width_in = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(width_in, width_out))


def sinusoid(time: Any, width: int) -> Any:
    """sin and cos of times [B, 1] at `width` / 2 frequencies."""
    import torch

    frequency = 10_000.0 ** (-torch.arange(width // 2) / (width // 2 - 1))
    angle = time * frequency
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)


def make_modules() -> Any:
    """The classes, which need PyTorch to be defined."""
    import torch

    class Actor(torch.nn.Module):
        """From states, points and times, each embedded by itself, to vectors."""

        def __init__(self, hidden: list[int], time_width: int, num_times: int) -> None:
            super().__init__()
            self.time_width = time_width
            self.embeddings = torch.nn.ModuleList(
                [mlp(time_width, [2 * time_width], time_width) for _ in range(num_times)]
            )
            width = ACTIONS + OBSERVATION + num_times * time_width
            self.layers = mlp(width, hidden, ACTIONS)

        def forward(self, observation: Any, point: Any, *times: Any) -> Any:
            features = [point, observation]
            for embedding, time in zip(self.embeddings, times, strict=True):
                features.append(embedding(sinusoid(time, self.time_width)))
            return self.layers(torch.cat(features, dim=-1))

    class Critics(torch.nn.Module):
        """Two critics."""

        def __init__(self, hidden: list[int]) -> None:
            super().__init__()
            width = OBSERVATION + ACTIONS
            self.each = torch.nn.ModuleList([mlp(width, hidden, 1) for _ in range(2)])

        def forward(self, observation: Any, action: Any) -> Any:
            features = torch.cat([observation, action], dim=-1)
            return torch.stack([critic(features)[:, 0] for critic in self.each])

        def one(self, index: int, observation: Any, action: Any) -> Any:
            return self.each[index](torch.cat([observation, action], dim=-1))[:, 0]

    return Actor, Critics


class OFQL:
    """The losses of OFQL."""

    num_times, num_noises = 2, 1

    def __init__(self, time_width: int) -> None:
        self.time_width = time_width

    def act(self, actor: Any, observation: Any, noise: Any) -> Any:
        """a = clip(ε − u(ε, 0, 1; s))."""
        import torch

        start = torch.zeros(len(observation), 1)
        return torch.clamp(noise[0] - actor(observation, noise[0], start, start + 1.0), -1.0, 1.0)

    def draw(self, number: int) -> dict[str, Any]:
        """The random numbers of a behaviour loss."""
        import torch

        times = torch.sigmoid(-0.4 + torch.randn(2, number, 1))
        start, time = times.min(0).values, times.max(0).values
        start[: number // 2] = time[: number // 2]
        return {"noise": torch.randn(number, ACTIONS), "start": start, "time": time}

    def behavior(self, actor: Any, observation: Any, action: Any, drawn: dict[str, Any]) -> Any:
        """The MeanFlow loss by rows."""
        import torch

        noise, start, time = drawn["noise"], drawn["start"], drawn["time"]
        point, velocity = (1.0 - time) * action + time * noise, noise - action
        average, change = torch.func.jvp(
            lambda point, start, time: actor(observation, point, start, time),
            (point, start, time),
            (velocity, torch.zeros_like(start), torch.ones_like(time)),
        )
        target = (velocity - (time - start) * change).detach()
        return torch.mean((average - target) ** 2, dim=-1)


class DQL:
    """The losses of Diffusion-QL with five steps."""

    num_times, num_noises = 1, 5

    def __init__(self, time_width: int) -> None:
        self.time_width = time_width
        number = np.arange(1, 6)
        beta = 1.0 - np.exp(-0.1 / 5 - 0.5 * 9.9 * (2 * number - 1) / 25)
        kept = np.cumprod(1.0 - beta)
        before = np.concatenate([[1.0], kept[:-1]])
        self.signal, self.noise = np.sqrt(kept), np.sqrt(1.0 - kept)
        self.from_clean = beta * np.sqrt(before) / (1.0 - kept)
        self.from_noisy = np.sqrt(1.0 - beta) * (1.0 - before) / (1.0 - kept)
        self.deviation = np.sqrt(beta * (1.0 - before) / (1.0 - kept))

    def act(self, actor: Any, observation: Any, noise: Any) -> Any:
        """All five steps back."""
        import torch

        point = noise[0]
        for taken, step in enumerate(reversed(range(5))):
            guess = actor(observation, point, torch.full((len(observation), 1), float(step)))
            clean = (point - float(self.noise[step]) * guess) / float(self.signal[step])
            clean = torch.clamp(clean, -1.0, 1.0)
            point = float(self.from_clean[step]) * clean + float(self.from_noisy[step]) * point
            if step:
                point = point + float(self.deviation[step]) * noise[taken + 1]
        return torch.clamp(point, -1.0, 1.0)

    def draw(self, number: int) -> dict[str, Any]:
        """The random numbers of a behaviour loss."""
        import torch

        step = torch.randint(0, 5, (number,))
        return {"noise": torch.randn(number, ACTIONS), "step": step}

    def behavior(self, actor: Any, observation: Any, action: Any, drawn: dict[str, Any]) -> Any:
        """The squared error of the noise by rows."""
        import torch

        noise, step = drawn["noise"], drawn["step"]
        signal, share = (
            torch.as_tensor(table, dtype=torch.float32)[step][:, None]
            for table in (self.signal, self.noise)
        )
        found = actor(observation, signal * action + share * noise, step[:, None].float())
        return torch.mean((found - noise) ** 2, dim=-1)


class Learner:
    """Networks, optimisers, and one gradient step after the other."""

    def __init__(self, setting: dict) -> None:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        kinds = {"ofql": OFQL, "dql": DQL}
        actor_class, critics_class = make_modules()
        self.rules = kinds[setting["algorithm"]](setting["time_width"])
        self.normalized_by_data = setting["q_normalization"] == "dataset"
        self.eta, self.batch_size = setting["eta"], setting["batch_size"]
        hidden = setting["hidden_sizes"]
        self.actor = actor_class(hidden, setting["time_width"], self.rules.num_times)
        self.critics = critics_class(hidden)
        self.averaged = copy.deepcopy(self.actor)
        self.target = copy.deepcopy(self.critics)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), LEARNING_RATE)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), LEARNING_RATE)
        self.steps = 0

    def critic_loss(self, batch: dict[str, Any], noise: Any) -> Any:
        """Σ_k mean (r + γ min_k Q'_k(s', a') − Q_k(s, a))²."""
        import torch

        with torch.no_grad():
            action = self.rules.act(self.averaged, batch["next_observation"], noise)
            value = self.target(batch["next_observation"], action).min(0).values
            goal = batch["reward"] + batch["discount"] * value
        q = self.critics(batch["observation"], batch["action"])
        return torch.sum(torch.mean((q - goal) ** 2, dim=1))

    def actor_losses(
        self, batch: dict[str, Any], drawn: dict[str, Any], noise: Any, index: int
    ) -> tuple[Any, Any, Any]:
        """(loss, behaviour loss, mean Q of the policy's actions)."""
        import torch

        observation = batch["observation"]
        behavior = torch.mean(self.rules.behavior(self.actor, observation, batch["action"], drawn))
        action = self.rules.act(self.actor, observation, noise)
        q = self.critics.one(index, observation, action)
        with torch.no_grad():
            if self.normalized_by_data:
                reference = self.critics.one(index, observation, batch["action"])
            else:
                reference = self.critics.one(1 - index, observation, action)
            scale = 1.0 / reference.abs().mean()
        return behavior - self.eta * scale * q.mean(), behavior, q.mean()

    def update_critics(self, batch: dict[str, Any], noise: Any) -> Any:
        """The critics' part of a gradient step; their loss before it."""
        self.critic_optimizer.zero_grad()
        loss = self.critic_loss(batch, noise)
        loss.backward()
        self.critic_optimizer.step()
        return loss.detach()

    def update(self, batch: dict[str, Any]) -> None:
        """One gradient step."""
        import torch

        number = self.batch_size
        noise = torch.randn(2, self.rules.num_noises, number, ACTIONS)
        self.update_critics(batch, noise[0])
        index = int(torch.randint(0, 2, ()))
        loss, _, _ = self.actor_losses(batch, self.rules.draw(number), noise[1], index)
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        follow(self.target, self.critics, TAU)
        if self.steps % EMA_INTERVAL == 0:
            follow(self.averaged, self.actor, 1.0 - EMA)
        self.steps += 1


def follow(target: Any, trained: Any, share: float) -> None:
    """θ' ← θ' + share (θ − θ')."""
    import torch

    with torch.no_grad():
        for old, new in zip(target.parameters(), trained.parameters(), strict=True):
            old.lerp_(new, share)


def make(setting: dict) -> list[Variant]:
    """The training, once its losses are jaxrl's."""
    import torch

    learner = Learner(setting)
    check(learner, setting["reference"])
    learner = Learner(setting)
    found = rows()
    data = {
        "observation": found["observation"],
        "action": found["action"],
        "reward": found["reward"],
        "discount": np.where(found["terminated"], 0.0, GAMMA).astype(np.float32),
        "next_observation": next_observations(found),
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in data.items()}

    def train(iterations: int) -> None:
        for _ in range(iterations * UPDATES):
            row = torch.randint(0, len(found["reward"]), (setting["batch_size"],))
            learner.update({name: each[row] for name, each in tensors.items()})

    return [Variant(setting["algorithm"], train, UPDATES)]


def check(learner: Learner, path: str) -> None:
    """Refuse to be timed unless the losses are those in the file, of the same numbers."""
    import torch

    with np.load(path) as file:
        given = {name: torch.from_numpy(file[name]) for name in file.files}
    networks = {
        "actor": learner.actor,
        "averaged": learner.averaged,
        "critic": learner.critics,
        "target": learner.target,
    }
    for name, network in networks.items():
        parameters = list(network.parameters())
        for index, parameter in enumerate(parameters):
            value = given[f"{name}.{index}"]
            parameter.data = value.T.contiguous() if value.ndim == 2 else value
        assert f"{name}.{len(parameters)}" not in given
    batch = {name.removeprefix("batch."): each for name, each in given.items() if "batch." in name}
    drawn = {name.removeprefix("drawn."): each for name, each in given.items() if "drawn." in name}
    # The actor climbs the critics as they are after their own step.
    losses = {"critic_loss": learner.update_critics(batch, given["noise_next"])}
    index = int(given["index"])
    _, losses["behavior_loss"], losses["policy_q"] = learner.actor_losses(
        batch, drawn, given["noise_policy"], index
    )
    for name, loss in losses.items():
        expected = float(given[name])
        if abs(float(loss) - expected) > TOLERANCE * abs(expected):
            raise ValueError(f"{name} is {float(loss)}, but {expected} in jaxrl.")


if __name__ == "__main__":
    keep_to_one_core()
    serve(make, ["torch"], ["torch", "numpy"])
