// The explorer: controls, panels and pointer of one page. It knows neither Python nor
// a network: it asks a decoder for a window of an output and draws what comes back.
//
// A decoder is an object with
//   about   {names, nonlocal, generative, upload}: the models' names, which of them hear
//           other queries, which draw samples, and whether photographs may be given
//   request what to show first: {scale, left, right, centre, side, seed, whole, shrink}.
//           left, right: names of models, left also "bicubic". centre: [row, col] of the
//           window as fractions of the output. side: its rows and columns at most.
//   ask(request)   asks for a window. request.number grows; only the latest counts.
//   photo(file)    takes another photograph (a File); an answer to it is a new "photo".
//   listen(hear)   calls hear(news) from now on; returns a function that ends it. News:
//           {type: "photo", rows, cols, image, choice, note}   the models' input; choice: may
//           it be a photograph that is shrunk first, or the photograph itself
//           {type: "view", number, request, size, window, panels, text, coarse}, where
//           panels are [{name, score, image}]; window is [row, col, rows, cols] of size
//           {type: "progress", number, text} and {type: "error", number, text}
//   image: ImageData. Sizes and places are (row, col) in pixels.

const SCALES = [2, 3, 4, 8, 30], LARGEST = 30;
const PIECE = 4e6; // bytes of a file in one message: Jupyter's server drops those over 10 MB
const SIDE = 256, NARROW = 120, WIDE = 512, GAP = 12; // of a panel: queries, CSS pixels
const LAYOUTS = { panels: "side by side", divider: "divider", difference: "difference" };
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const plain = (scale) => String(Number(scale.toFixed(2)));

// A whole scale where one is near; else two decimals.
function snap(scale) {
  const whole = Math.round(scale);
  const near = Math.abs(scale / whole - 1) < 0.012;
  return clamp(near ? whole : Number(scale.toFixed(2)), 1, LARGEST);
}

function make(tag, properties = {}, ...children) {
  const { aria = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  for (const [key, value] of Object.entries(aria)) element.setAttribute(`aria-${key}`, value);
  element.append(...children);
  return element;
}

export function mount(root, decoder) {
  const { about } = decoder, first = { ...decoder.request };
  let now = { ...first }, layout = "panels", split = 0.5;
  let photo = null, view = null, order = about.names, hidden = false, refit = true;
  let asked = first.number || 0, timers = [];

  // Elements ------------------------------------------------------------------------
  const slider = make("input", {
    type: "range", className: "asr-slider", min: 0, max: Math.log10(LARGEST), step: 0.01,
    aria: { label: "scale" }, oninput: () => look({ scale: snap(10 ** slider.value) }),
  });
  const field = make("input", {
    type: "number", className: "asr-field", min: 1, max: LARGEST, step: 0.1, aria: { label: "scale, typed" },
    onchange: () => look({ scale: clamp(Number(field.value) || now.scale, 1, LARGEST) }),
  });
  const button = (text, title, onclick) => make("button", { type: "button", textContent: text, title, onclick });
  const scales = SCALES.map((s) => button(`×${s}`, `scale ${s}`, () => look({ scale: s })));
  const reset = button("reset", "first scale and place", () => look({ scale: first.scale, centre: first.centre }));
  const tabs = order.map((name, k) => button(name, "", () => choose("right", order[k])));
  const left = make("select", { title: "left panel", aria: { label: "left panel" },
    onchange: () => choose("left", left.value) });
  left.append(...["bicubic", ...order].map((name) => make("option", { value: name, textContent: name })));
  const layouts = Object.entries(LAYOUTS).map(([key, text]) =>
    button(text, `show the two as: ${text}`, () => { layout = key; refresh(); fit(); }));
  const blind = button("hide names", "call the methods A, B, C … in an unknown order", () => {
    hidden = !hidden;
    order = hidden ? about.names.map((name) => [Math.random(), name]).sort().map((pair) => pair[1]) : about.names;
    tabs.forEach((e, k) => { e.textContent = shown(order[k]); });
    [...left.options].slice(1).forEach((e, k) => Object.assign(e, { value: order[k], textContent: shown(order[k]) }));
    refresh(); draw();
  });
  const check = (text, key) => {
    const box = make("input", { type: "checkbox", onchange: () => look({ [key]: box.checked }) });
    return [make("label", {}, box, text), box];
  };
  const [wholeLabel, whole] = check("hear the whole output (slow)", "whole");
  const [shrinkLabel, shrink] = check("shrink the photograph first, to compare with the truth", "shrink");
  const seed = make("input", { type: "number", className: "asr-field", min: 0, max: 9999,
    onchange: () => look({ seed: clamp(Math.round(seed.value), 0, 9999) }) });
  const seedLabel = make("label", {}, "seed ", seed);
  const file = make("input", { type: "file", accept: "image/*", hidden: true, onchange: () => {
    if (file.files.length) decoder.photo(file.files[0]);
    if (file.files.length) wait("reading the file …");
    file.value = "";
  } });
  const upload = button("your own photo", "choose a picture file", () => file.click());
  const input = make("canvas", { role: "img", className: "asr-input" });
  const frame = make("div", { className: "asr-frame" });
  const heading = make("figcaption");
  const map = make("figure", { className: "asr-map", title: "click to move the window" }, heading,
    make("div", {}, input, frame));
  const panels = make("div", { className: "asr-panels", tabIndex: 0, role: "group",
    aria: { label: "enlarged pictures. Arrow keys move the window, plus and minus change the scale" } });
  const slots = [0, 1, 2].map(() => {
    const caption = make("figcaption"), canvas = make("canvas", { role: "img" });
    const box = make("div", { className: "asr-box" }, canvas);
    return { figure: make("figure", {}, caption, box), caption, canvas, box };
  });
  const over = make("canvas", { role: "img", className: "asr-over" });
  const handle = make("div", { className: "asr-handle", tabIndex: 0, role: "slider",
    aria: { label: "divider", valuemin: 0, valuemax: 100 } });
  const status = make("div", { className: "asr-status", role: "status", aria: { live: "polite" } });
  const hint = make("div", { className: "asr-hint", textContent:
    "Drag the picture or use the arrow keys. Click it, then turn the wheel to change the scale about the pointer." });
  const row = (...children) => make("div", { className: "asr-row" }, ...children);
  root.classList.add("asr-explorer");
  root.append(
    row(make("label", {}, "scale × "), slider, field, ...scales, reset),
    row(make("span", { className: "asr-group" }, ...tabs), make("label", {}, "beside ", left),
      make("span", { className: "asr-group" }, ...layouts), blind),
    row(upload, file, shrinkLabel, wholeLabel, seedLabel),
    make("div", { className: "asr-stage" }, map, panels), hint, status,
  );
  tabs.concat(blind).forEach((e) => { e.hidden = about.names.length < 2; });
  upload.hidden = !about.upload;

  // Asking --------------------------------------------------------------------------
  const shown = (name) => (hidden && order.includes(name) ? String.fromCharCode(65 + order.indexOf(name)) : name);

  function choose(which, name) {
    const other = which === "left" ? "right" : "left", change = { [which]: name };
    if (now[other] === name) change[other] = other === "left" ? "bicubic" : now[which];
    look(change);
  }

  // The window's centre, kept so that the window stays inside the output.
  function inside(centre, scale) {
    return [photo.rows, photo.cols].map((n, k) => {
      const size = Math.floor(n * scale + 0.5), half = Math.min(now.side, size) / 2 / size;
      return clamp(centre[k], half, 1 - half);
    });
  }

  function look(change) {
    now = { ...now, ...change };
    if (photo) now.centre = inside(now.centre, now.scale);
    now.number = asked = asked + 1;
    refresh();
    wait();
    decoder.ask(now);
  }

  // Mark the picture as old at once; after a while say why it may be late.
  function wait(text = "") {
    timers.forEach(clearTimeout);
    root.dataset.busy = "true";
    if (text) status.textContent = text;
    timers = [[400, "working …"], [3000,
      "No answer yet: another cell is running, or this widget is from an earlier session. " +
      "Then run the cells above and this one (Shift+Enter)."]].map(([after, words]) =>
      setTimeout(() => { status.textContent = words; }, after));
  }

  function ready(busy = false) { timers.forEach(clearTimeout); root.dataset.busy = String(busy); }

  // Room for `count` panels: how many stand in a row, and CSS pixels of each.
  function room(count) {
    const width = panels.clientWidth || root.clientWidth;
    const columns = clamp(Math.floor((width + GAP) / (NARROW + GAP)), 1, count);
    return [columns, clamp(Math.floor((width + GAP) / columns - GAP), 64, WIDE)];
  }

  // As many queries as fit the panels at a whole factor; ask again if that has changed.
  function fit() {
    refit = false;
    const side = room(count())[1];
    const best = Math.floor(side / Math.max(1, Math.round(side / SIDE)) / 8) * 8;
    if (photo && Math.min(best, SIDE) !== now.side) look({ side: Math.min(best, SIDE) });
    else draw();
  }

  const count = () => {
    const truth = view ? view.panels.length - 2 : 1;
    return layout === "divider" ? 1 + truth : layout === "difference" ? 3 : 2 + truth;
  };

  // Controls show what was asked ------------------------------------------------------
  function refresh() {
    slider.value = Math.log10(now.scale);
    slider.setAttribute("aria-valuetext", plain(now.scale));
    field.value = plain(now.scale);
    const press = (e, on) => e.setAttribute("aria-pressed", on);
    scales.forEach((e, k) => press(e, now.scale === SCALES[k]));
    tabs.forEach((e, k) => press(e, now.right === order[k]));
    layouts.forEach((e, k) => press(e, Object.keys(LAYOUTS)[k] === layout));
    press(blind, hidden);
    left.value = now.left;
    const chosen = [now.left, now.right], uses = (list) => chosen.some((n) => list.includes(n));
    wholeLabel.hidden = !uses(about.nonlocal);
    seedLabel.hidden = !uses(about.generative);
    shrinkLabel.hidden = !(photo && photo.choice);
    whole.checked = now.whole;
    shrink.checked = now.shrink;
    seed.value = now.seed;
  }

  // Panels show what came back ---------------------------------------------------------
  function title(panel) {
    return shown(panel.name) + (panel.score && !hidden ? ` · ${panel.score}` : "");
  }

  function difference(one, two) {
    const made = new ImageData(one.width, one.height);
    for (let k = 0; k < made.data.length; k++)
      made.data[k] = k % 4 < 3 ? 128 + 4 * (two.data[k] - one.data[k]) : 255;
    return made;
  }

  // A window's own pixels, each enlarged to a whole number of the screen's; returns it.
  function paint(canvas, words, image, available) {
    if (canvas.width !== image.width || canvas.height !== image.height)
      Object.assign(canvas, { width: image.width, height: image.height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    const density = window.devicePixelRatio || 1;
    const factor = Math.floor((available * density) / image.width + 0.001) || available / image.width;
    canvas.style.width = `${(image.width * factor) / density}px`;
    canvas.style.imageRendering = factor >= 1 ? "pixelated" : "auto";
    canvas.setAttribute("aria-label", `${words}, scale ${plain(view.request.scale)}`);
    return factor;
  }

  function draw() {
    if (!view) return;
    const [columns, available] = room(count());
    const [a, b, ...more] = view.panels.map((panel) => [title(panel), panel.image]);
    const divided = layout === "divider", shows = divided ? [[`${a[0]} | ${b[0]}`, b[1]], ...more] : [a, b, ...more];
    if (layout === "difference") {
      const words = `${shown(view.panels[1].name)} − ${shown(view.panels[0].name)}, 4 times, grey is none`;
      shows[2] = [words, difference(a[1], b[1])];
    }
    let factor;
    shows.forEach(([words, image], k) => {
      if (slots[k].caption.textContent !== words) slots[k].caption.textContent = words;
      factor = paint(slots[k].canvas, words, image, available);
    });
    if (divided) paint(over, a[0], a[1], available);
    if (divided !== Boolean(over.parentNode))
      [over, handle].forEach((e) => (divided ? slots[0].box.append(e) : e.remove()));
    panels.style.gridTemplateColumns = `repeat(${columns}, max-content)`;
    if (panels.children.length !== shows.length)
      panels.replaceChildren(...slots.slice(0, shows.length).map((slot) => slot.figure));
    divide(split);
    const [top, start, rows, cols] = view.window, [h, w] = view.size;
    Object.assign(frame.style, { top: `${100 * top / h}%`, left: `${100 * start / w}%`,
      height: `${100 * rows / h}%`, width: `${100 * cols / w}%` });
    const size = factor === 1 ? "" : factor < 1 ? " Shown smaller, smoothly." : ` Each pixel is shown ${factor} × ${factor}.`;
    status.textContent = hidden ? "" : `${photo.note} ${view.text}${size}`.trim();
    root.dataset.scale = plain(view.request.scale);
    root.dataset.window = view.window.join(" ");
    root.dataset.version = Number(root.dataset.version || 0) + 1;
  }

  function divide(share) {
    split = clamp(share, 0, 1);
    root.style.setProperty("--split", `${100 * split}%`);
    handle.setAttribute("aria-valuenow", Math.round(100 * split));
  }

  // News from the decoder ---------------------------------------------------------------
  function hear(news) {
    if (news.type === "photo") {
      photo = news;
      [input.width, input.height] = [news.image.width, news.image.height];
      input.getContext("2d").putImageData(news.image, 0, 0);
      heading.textContent = `input, ${news.rows} × ${news.cols}`;
      input.setAttribute("aria-label", heading.textContent);
      refit = true; // once its view is here: until then `now` may not know of it
      refresh();
    } else if (news.number < asked) {
      return;
    } else if (news.type === "view") {
      const before = count();
      const elsewhere = news.number > asked; // asked for from Python, or in another view
      if (elsewhere) now = { ...now, ...news.request };
      [view, asked] = [news, news.number];
      if (elsewhere) refresh();
      ready(news.coarse);
      draw();
      if (refit || count() !== before) fit();
    } else if (news.type === "progress") {
      ready(true);
      status.textContent = news.text;
    } else if (news.type === "error") {
      ready();
      status.replaceChildren(make("span", { className: "asr-error", textContent: news.text }));
    }
  }

  // Pointer, wheel and keys -----------------------------------------------------------------
  const fingers = new Map();
  let grip = null; // where a drag or a pinch began

  // Fractions of the window under the pointer: (row, col).
  function place(e) {
    const box = (e.target.closest(".asr-box") || panels).getBoundingClientRect();
    return [(e.clientY - box.top) / box.height, (e.clientX - box.left) / box.width];
  }

  // Another scale, with the same point of the picture under the pointer.
  function zoom(scale, [row, col]) {
    const [h, w] = view.size, [, , rows, cols] = view.window;
    const size = [photo.rows, photo.cols].map((n) => Math.floor(n * scale + 0.5));
    const sides = size.map((n) => Math.min(n, now.side));
    const at = [now.centre[0] + ((row - 0.5) * rows) / h, now.centre[1] + ((col - 0.5) * cols) / w];
    look({ scale, centre: at.map((x, k) => x - (([row, col][k] - 0.5) * sides[k]) / size[k]) });
  }

  const span = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  };

  panels.addEventListener("pointerdown", (e) => {
    if (!view || !e.target.closest(".asr-box")) return;
    (e.target === handle ? handle : panels).focus({ preventScroll: true });
    e.preventDefault();
    panels.setPointerCapture(e.pointerId);
    fingers.set(e.pointerId, e);
    const box = e.target.closest(".asr-box").getBoundingClientRect();
    grip = { x: e.clientX, y: e.clientY, centre: now.centre, box, divide: e.target === handle };
    if (fingers.size === 2) grip = { ...grip, span: span(), scale: now.scale, place: place(e) };
  });
  panels.addEventListener("pointermove", (e) => {
    if (!grip || !fingers.has(e.pointerId)) return;
    fingers.set(e.pointerId, e);
    if (grip.divide) return divide((e.clientX - grip.box.left) / grip.box.width);
    if (grip.span) return zoom(snap((grip.scale * span()) / grip.span), grip.place);
    const [h, w] = view.size, [, , rows, cols] = view.window, { box, centre } = grip;
    look({ centre: [centre[0] - ((e.clientY - grip.y) / box.height) * rows / h,
      centre[1] - ((e.clientX - grip.x) / box.width) * cols / w] });
  });
  const release = (e) => { fingers.delete(e.pointerId); grip = null; };
  panels.addEventListener("pointerup", release);
  panels.addEventListener("pointercancel", release);
  panels.addEventListener("wheel", (e) => {
    if (!view || !(e.ctrlKey || panels.contains(document.activeElement))) return;
    e.preventDefault();
    const step = clamp(-e.deltaY, -60, 60) / 400;
    zoom(clamp(Number((now.scale * Math.exp(step)).toFixed(2)), 1, LARGEST), place(e));
  }, { passive: false });
  map.addEventListener("pointerdown", (e) => {
    const box = input.getBoundingClientRect();
    look({ centre: [(e.clientY - box.top) / box.height, (e.clientX - box.left) / box.width] });
  });
  panels.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const arrow = ARROWS[e.key], step = { "+": 1.05, "-": 1 / 1.05 }[e.key];
    if (arrow && e.target === handle) divide(split + arrow[1] / 50);
    else if (arrow && view) {
      const [h, w] = view.size, [, , rows, cols] = view.window;
      look({ centre: [now.centre[0] + arrow[0] * rows / h / 8, now.centre[1] + arrow[1] * cols / w / 8] });
    } else if (step) look({ scale: clamp(now.scale * step, 1, LARGEST) });
    if (arrow) e.preventDefault();
  });
  // Keys pressed here must not become commands of the notebook around us.
  root.addEventListener("keydown", (e) => {
    const leaves = e.ctrlKey || e.metaKey || e.altKey || (e.shiftKey && e.key === "Enter");
    if (!leaves && !["Tab", "Escape"].includes(e.key)) e.stopPropagation();
  });

  const deaf = decoder.listen(hear);
  let width = 0;
  const watch = new ResizeObserver(() => {
    if (view && root.clientWidth !== width) fit();
    width = root.clientWidth;
  });
  watch.observe(root);
  refresh();
  return () => { deaf(); watch.disconnect(); timers.forEach(clearTimeout); };
}

// The decoder of a notebook: Python, through the traits of a widget.
function kernel(model) {
  function picture({ rows, cols, data }) { // RGB bytes
    const made = new ImageData(cols, rows), pixels = new Uint32Array(made.data.buffer);
    for (let k = 0, i = 0; k < pixels.length; k++, i += 3)
      pixels[k] = data.getUint8(i) | (data.getUint8(i + 1) << 8) | (data.getUint8(i + 2) << 16) | 0xff000000;
    return made;
  }
  const pictured = (item) => ({ ...item, image: picture(item.image) });
  return {
    about: model.get("about"),
    request: model.get("asked"),
    ask(request) { model.set("asked", request); model.save_changes(); },
    async photo(file) {
      const data = await file.arrayBuffer(), size = data.byteLength;
      for (let at = 0; !at || at < size; at += PIECE)
        model.send({ type: "photo", name: file.name, at, size }, undefined, [data.slice(at, at + PIECE)]);
    },
    listen(hear) {
      const photo = () => hear({ ...pictured(model.get("photo")), type: "photo" });
      const answer = () => model.get("answer");
      const view = () => hear({ ...answer(), panels: answer().panels.map(pictured), type: "view" });
      const heard = { "change:photo": photo, "change:answer": view, "msg:custom": hear };
      for (const [event, f] of Object.entries(heard)) model.on(event, f);
      if (model.get("photo").image) photo();
      if (model.get("answer").panels) view();
      return () => { for (const [event, f] of Object.entries(heard)) model.off(event, f); };
    },
  };
}

export default { render: ({ model, el }) => mount(el, kernel(model)) };
