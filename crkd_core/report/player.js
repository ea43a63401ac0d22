"use strict";
// The player of a report: a drive from above, x forward pointing up, y to the left.
// Its element and its data are the two elements before this script.
(() => {
  const data = JSON.parse(document.currentScript.previousElementSibling.textContent);
  const root = document.currentScript.previousElementSibling.previousElementSibling;
  const make = (tag, settings, parent) =>
    parent.appendChild(Object.assign(document.createElement(tag), settings));

  const bar = make("div", { className: "player-bar" }, root);
  const button = make("button", { textContent: "play", type: "button" }, bar);
  const slider = make(
    "input", { type: "range", min: 0, max: data.frames.length - 1, value: 0 }, bar);
  const clock = make("span", {}, bar);
  const choose = make("select", { title: "network" }, bar);
  for (const name of data.networks) make("option", { textContent: name }, choose);
  choose.value = data.networks[data.networks.length - 1];
  const label = make("label", { textContent: " score from " }, bar);
  const score = make(
    "input", { type: "range", min: 0.1, max: 0.9, step: 0.05, value: 0.25 }, label);
  const least = make("span", {}, label);
  const layer = (text) => {
    const box = make("label", {}, bar);
    const input = make("input", { type: "checkbox", checked: true }, box);
    box.append(" " + text);
    return input;
  };
  const [truth, radar] = [layer("truth"), layer("radar")];
  const canvas = make("canvas", { width: 900, height: 900 }, root);
  canvas.style.maxWidth = "100%";
  const legend = make("p", { className: "player-legend" }, root);
  for (const [name, color] of Object.entries(data.colors)) {
    const entry = make("span", { textContent: name + " " }, legend);
    Object.assign(entry.style, {
      borderLeft: `.8em solid ${color}`, paddingLeft: ".3em", marginRight: ".8em",
    });
  }

  const pen = canvas.getContext("2d");
  const reach = 55;
  const scale = canvas.width / (2 * reach);
  const place = (x, y) => [canvas.width / 2 - y * scale, canvas.height / 2 - x * scale];
  const line = (...points) => {
    pen.beginPath();
    points.forEach(([x, y], i) => (i ? pen.lineTo : pen.moveTo).call(pen, ...place(x, y)));
    pen.stroke();
  };
  const drawBox = ([x, y, length, width, yaw, vx, vy], color, thick) => {
    const [c, s] = [Math.cos(yaw), Math.sin(yaw)];
    const at = (u, v) => [x + c * u - s * v, y + s * u + c * v];
    const [l, w] = [length / 2, width / 2];
    pen.strokeStyle = color;
    pen.lineWidth = thick;
    line(at(l, w), at(l, -w), at(-l, -w), at(-l, w), at(l, w));
    line(at(0, 0), at(l, 0));
    if (Math.hypot(vx, vy) > 0.5) {
      pen.setLineDash([4, 3]);
      line(at(l, 0), [at(l, 0)[0] + vx, at(l, 0)[1] + vy]);
      pen.setLineDash([]);
    }
  };

  const draw = () => {
    const frame = data.frames[+slider.value];
    pen.fillStyle = "#14171c";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = "#2a2f38";
    pen.lineWidth = 1;
    for (const metres of [20, 30, 50]) {
      pen.beginPath();
      pen.arc(...place(0, 0), metres * scale, 0, 2 * Math.PI);
      pen.stroke();
    }
    if (radar.checked) {
      pen.fillStyle = pen.strokeStyle = "#5e7a9c";
      for (const [x, y, vx, vy] of frame.radar) {
        const [i, j] = place(x, y);
        pen.fillRect(i - 1.5, j - 1.5, 3, 3);
        line([x, y], [x + vx, y + vy]);
      }
    }
    if (truth.checked) for (const box of frame.truth) drawBox(box, "#ffffff", 2);
    for (const box of frame.found[choose.value]) {
      if (box[8] >= +score.value) drawBox(box, data.colors[box[7]], 1.5);
    }
    drawBox([1.2, 0, 4.4, 1.8, 0, 0, 0], "#39d353", 2);
    clock.textContent = ` ${frame.t.toFixed(1)} s `;
    least.textContent = ` ${(+score.value).toFixed(2)} `;
  };

  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "play";
  };
  button.onclick = () => {
    if (timer) return stop();
    button.textContent = "pause";
    timer = setInterval(() => {
      slider.value = (+slider.value + 1) % data.frames.length;
      draw();
    }, 400);
  };
  slider.oninput = () => { stop(); draw(); };
  for (const input of [choose, score, truth, radar]) input.oninput = draw;
  draw();
})();
