// Networks in a thread of the page's own. In: {photo} and {request}, as explorer.js
// calls them, {runtime} first. Out: its news. One request is worked on at a time, and
// given up between two bands of rows as soon as there is a later one.

import * as ort from "./ort.wasm.min.mjs";
import { resize } from "./resize.js";

const LARGEST = 192; // rows and columns of an input: encoding takes time for each pixel
const SHRINK = 4, COARSE = 4, EVERY = 8, BAND = 32;
const SOON = 100; // ms; a window that takes longer is preceded by a coarse one
const LUMA = [65.481, 128.553, 24.966];

let files, photo, shrunk, lr, hr, latest, busy = false;
const sessions = {}, pace = {};
let features = {}, sums = {};

const tell = (news) => postMessage({ number: latest ? latest.number : 0, ...news });
const progress = (text, done) => tell({ type: "progress", text, done });

// Let messages in that arrived meanwhile; false if the request is not the latest now.
const door = new MessageChannel();
function still(request) {
  return new Promise((resolve) => {
    door.port1.onmessage = () => resolve(latest === request);
    door.port2.postMessage(0);
  });
}

onmessage = ({ data }) => {
  if (data.files) files = data.files;
  if (data.photo) [photo, shrunk] = [data.photo, null];
  if (data.request) latest = data.request;
  if (data.request && !busy) work();
};

async function work() {
  busy = true;
  for (let request; request !== latest;) {
    request = latest;
    try {
      await draw(request);
    } catch (error) {
      if (request === latest) tell({ type: "error", text: `Not drawn: ${error.message || error}` });
    }
  }
  busy = false;
}

// A file of the website, with progress.
async function load(name, what) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${what} is missing on this website (${name}, ${response.status})`);
  const whole = new Uint8Array(files[name] || 0), reader = response.body.getReader();
  if (!files[name]) throw new Error(`${what} is not among the files of this website`);
  for (let at = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return whole;
    whole.set(value, at);
    at += value.length;
    progress(`loading ${what}: ${Math.round((100 * at) / whole.length)} % of ${(whole.length / 1e6).toFixed(1)} MB`,
      at / whole.length);
  }
}

async function session(name, part) {
  const file = `models/${name}/${part}.onnx`;
  if (!sessions[file]) {
    if (!ort.env.wasm.wasmBinary) {
      const binary = await load("ort-wasm-simd-threaded.wasm", "the program that runs networks");
      Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: binary.buffer });
      ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
    }
    const model = await load(file, `${name}, ${part}`);
    sessions[file] = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  }
  return sessions[file];
}

// Feed a session what it reads of `values`: its outputs by name.
async function run(name, part, values) {
  const network = await session(name, part);
  return network.run(Object.fromEntries(network.inputNames.map((key) => [key, values[key]])));
}

const floats = (values, shape) => new ort.Tensor("float32", Float32Array.from(values), shape);

async function encode(name) {
  if (!features[name]) {
    await session(name, "encoder");
    progress(`${name} reads the picture …`);
    const { rows, cols, data } = lr, n = rows * cols, values = new Float32Array(3 * n);
    for (let k = 0; k < 3 * n; k++) values[k] = data[4 * (k % n) + Math.floor(k / n)] / 255;
    features[name] = await run(name, "encoder", { picture: floats(values, [1, 3, rows, cols]) });
  }
  return features[name];
}

// Centres of every so-many-th pixel from `first` on, of an axis of n: on [-1, 1].
function centres(n, first, count, every) {
  const list = [];
  for (let i = first; i < first + count; i += every) list.push((2 * i + 1) / n - 1);
  return floats(list, [list.length]);
}

// Pixels of a window of a model's output, coarse or all; null if it was given up.
async function paint(request, label, size, [top, left, rows, cols], every) {
  const name = request.models[label], half = every >> 1;
  const fixed = { ...(await encode(name)), cell: floats([2 / size[0], 2 / size[1]], [1, 2]) };
  if (files[`models/${name}/totals.onnx`]) {
    const key = [name, ...size, top, left, rows, cols].join();
    if (sums.key !== key) sums = { key, made: await run(name, "totals", { ...fixed,
      rows: centres(size[0], top, rows, EVERY), cols: centres(size[1], left, cols, EVERY) }) };
    Object.assign(fixed, sums.made);
  }
  fixed.cols = centres(size[1], left + half, cols - half, every);
  const image = { rows: 0, cols: fixed.cols.dims[0] }, bands = [];
  for (let row = half; row < rows; row += BAND * every) {
    const count = Math.min(rows - row, BAND * every);
    const { rgb } = await run(name, "decoder", { ...fixed, rows: centres(size[0], top + row, count, every) });
    const n = rgb.dims[2] * rgb.dims[3], data = new Uint8ClampedArray(4 * n).fill(255);
    for (let k = 0; k < 3 * n; k++) data[4 * (k % n) + Math.floor(k / n)] = 255 * rgb.data[k];
    bands.push(data);
    image.rows += rgb.dims[2];
    if (!(await still(request))) return null;
  }
  image.data = new Uint8ClampedArray(4 * image.rows * image.cols);
  bands.reduce((at, band) => { image.data.set(band, at); return at + band.length; }, 0);
  return every === 1 ? image : resize(image, [rows, cols]);
}

// PSNR on luma in dB of two images.
function psnr(a, b) {
  let sum = 0;
  for (let i = 0; i < a.data.length; i += 4) {
    const error = LUMA.reduce((s, w, k) => s + (w * (a.data[i + k] - b.data[i + k])) / 255 / 255, 0);
    sum += error * error;
  }
  return -10 * Math.log10(sum / (a.rows * a.cols));
}

// The input of the models, as it is asked for; also news for the page.
function prepare(shrink) {
  if (shrunk === shrink) return;
  const by = shrink ? SHRINK : 1;
  const longest = Math.max(photo.rows, photo.cols), limit = LARGEST * by;
  const fit = (n) => Math.max(1, Math.floor((n * Math.min(1, limit / longest)) / by));
  const [rows, cols] = [fit(photo.rows), fit(photo.cols)], whole = [rows * by, cols * by];
  hr = longest > limit ? resize(photo, whole) : resize(photo, [photo.rows, photo.cols], [0, 0, ...whole]);
  lr = resize(hr, [rows, cols]);
  [shrunk, features, sums] = [shrink, {}, {}];
  const note = longest > limit ? `Your photograph was first shrunk to ${whole.join("×")} pixels.` : "";
  tell({ type: "photo", rows, cols, image: picture(lr), choice: true, note });
}

const picture = ({ rows, cols, data }) => new ImageData(data, cols, rows);

async function draw(request) {
  prepare(request.shrink);
  const size = [lr.rows, lr.cols].map((n) => Math.floor(n * request.scale + 0.5));
  const side = Math.min(request.side, ...size);
  const [top, left] = size.map((n, k) =>
    Math.min(Math.max(Math.round(request.centre[k] * n - side / 2), 0), n - side));
  const window = [top, left, side, side], drawn = {};
  const labels = [request.left, request.right].filter((label) => label in request.models);
  const truth = request.shrink && resize(hr, size, window), scored = truth && size[0] <= hr.rows;
  if (labels.length < 2) drawn.bicubic = resize(lr, size, window);
  let milliseconds = 0;

  function show(coarse) {
    const panels = [];
    const add = (name, image, scores) => panels.push({ name, image: picture(image),
      score: scores ? `${psnr(image, truth).toFixed(2)} dB`.replace("Infinity", "∞") : "" });
    for (const label of [request.left, request.right])
      add(label, drawn[label], scored && !coarse);
    if (truth) add(scored ? "truth" : `photograph, bicubic ×${(size[0] / hr.rows).toPrecision(3)}`, truth);
    let text = `${lr.rows}×${lr.cols} → ${size.join("×")} pixels (rows × columns). The window: rows ` +
      `${top} to ${top + side}, columns ${left} to ${left + side}; `;
    if (coarse) text += `coarse so far (${milliseconds.toFixed(0)} ms), the rest follows …`;
    else text += `${(side * side).toLocaleString("en")} pixels in ${milliseconds.toFixed(0)} ms, in this browser`;
    if (scored && !coarse) text += "; dB: PSNR on luma in this window";
    if (labels.some((label) => files[`models/${request.models[label]}/totals.onnx`]))
      text += `; each query hears ${Math.ceil(side / EVERY) ** 2} of the window`;
    tell({ type: "view", request, size, window, panels, coarse, text: `${text}.` });
  }

  for (const label of labels) {
    await encode(request.models[label]);
    await session(request.models[label], "decoder");
    if (!(await still(request))) return;
  }
  const slow = labels.some((label) => !(pace[label] * side * side < SOON));
  for (const every of slow && side > 64 ? [COARSE, 1] : [1]) {
    for (const label of labels) {
      const began = performance.now();
      drawn[label] = await paint(request, label, size, window, every);
      if (!drawn[label]) return;
      milliseconds = performance.now() - began;
      if (every === 1) pace[label] = milliseconds / (side * side);
    }
    show(every > 1);
  }
}
