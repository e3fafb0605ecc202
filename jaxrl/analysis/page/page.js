// Answers the mouse: at each curve's nearest point, its interquartile mean and interval, the highest first.
// All text is set as text: labels are names of folders, and may be anything.
"use strict";

function number(value) {
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

function nearest(line, wanted) {
  let best = -1;
  line.x.forEach((x, index) => {
    const isNearer = best < 0 || Math.abs(x - wanted) < Math.abs(line.x[best] - wanted);
    if (line.middle[index] !== null && isNearer) best = index;
  });
  return best;
}

function shown(line, index, at) {
  const row = document.createElement("div");
  const key = document.createElement("i");
  key.style.background = line.colour;
  let text = `${line.label}  ${number(line.middle[index])}`;
  if (line.low[index] !== null) text += `  [${number(line.low[index])}, ${number(line.high[index])}]`;
  if (line.x[index] !== at) text += `  at ${number(line.x[index])}`;
  row.append(key, text);
  return row;
}

function mark(name, attributes) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  return found;
}

for (const figure of document.querySelectorAll("figure.chart")) {
  const picture = figure.querySelector("svg");
  const readout = figure.querySelector(".readout");
  const data = JSON.parse(figure.querySelector("script").textContent);
  const [left, right, bottom, top] = data.frame;
  const [boxLeft, boxRight, boxBottom, boxTop] = data.box;
  const marks = picture.appendChild(mark("g", {}));
  const place = (value) => boxLeft + ((value - left) / (right - left)) * (boxRight - boxLeft);
  const height = (value) => boxBottom - ((value - bottom) / (top - bottom)) * (boxBottom - boxTop);

  picture.addEventListener("pointermove", (event) => {
    const size = picture.getBoundingClientRect();
    const pixels = ((event.clientX - size.left) / size.width) * picture.viewBox.baseVal.width;
    const wanted = left + ((pixels - boxLeft) / (boxRight - boxLeft)) * (right - left);
    marks.replaceChildren();
    const found = data.lines.map((line) => [line, nearest(line, wanted)]).filter(([, index]) => index >= 0);
    if (!found.length) return;
    found.sort(([a, i], [b, j]) => b.middle[j] - a.middle[i]);
    const at = found.map(([line, index]) => line.x[index]).reduce((a, b) =>
      Math.abs(a - wanted) <= Math.abs(b - wanted) ? a : b);
    marks.append(mark("line", { x1: place(at), x2: place(at), y1: boxTop, y2: boxBottom, class: "rule" }));
    for (const [line, index] of found) {
      const dot = { cx: place(line.x[index]), cy: height(line.middle[index]), r: 4, fill: line.colour };
      marks.append(mark("circle", dot));
    }
    const head = document.createElement("div");
    head.textContent = `${number(at)} ${data.unit}`;
    readout.replaceChildren(head, ...found.map(([line, index]) => shown(line, index, at)));
    readout.hidden = false;
    const isLeft = pixels < (boxLeft + boxRight) / 2;
    readout.style.left = isLeft ? "auto" : "4rem";
    readout.style.right = isLeft ? "1rem" : "auto";
  });
  picture.addEventListener("pointerleave", () => {
    marks.replaceChildren();
    readout.hidden = true;
  });
}
