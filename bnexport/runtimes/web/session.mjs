// A session of onnxruntime-web, in node and in a page alike. Questions come from `bnexport.runtimes.web.exchange` by HTTP, and answers go back:
// the length of the header in four bytes, the header as JSON, and the tensors as they lie in memory, each from a multiple of eight bytes on.

const ARRAYS = {
  float32: Float32Array, float64: Float64Array, float16: Uint16Array, bool: Uint8Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
};
const START = 4, STEP = 8;
const roundUp = (size) => Math.ceil(size / STEP) * STEP;

// One input and one output, `Identity`: where it does not open, the library does not run here, whatever the model.
const PROBE = 'CAg6PQoSCgF4EgF5IghJZGVudGl0eToAEgVwcm9iZVoPCgF4EgoKCAgBEgQKAggBYg8KAXkSCgoICAESBAoCCAFCBAoAEA0=';

let ort, settings, session;

async function load(asked) {
  ort = await import(asked.library);
  ort = ort.InferenceSession ? ort : ort.default;
  settings = asked.settings;
  ort.env.logLevel = asked.watched ? 'info' : 'error';
  if (asked.watched) watchLog();
  if (asked.threads) ort.env.wasm.numThreads = asked.threads;
  if (asked.files) ort.env.wasm.wasmPaths = asked.files;
  const probe = await ort.InferenceSession.create(Uint8Array.from(atob(PROBE), (c) => c.charCodeAt(0)), settings);
  await probe.release();
  return { version: ort.env.versions?.web ?? '', threads: ort.env.wasm.numThreads ?? 0 };
}

async function open(asked, tensors, model) {
  session = await ort.InferenceSession.create(model, settings);
  return {};
}

async function run({ outputs }, tensors) {
  const feeds = {};
  for (const { name, type, dims, data } of tensors) feeds[name] = new ort.Tensor(type, data, dims);
  const values = await session.run(feeds, outputs);
  return { tensors: outputs.map((name) => ({ name, type: values[name].type, dims: values[name].dims, data: values[name].data })) };
}

function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const { tensors = [], ...header } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, START, length)));
  let offset = roundUp(START + length);
  const read = tensors.map((tensor) => {
    if (tensor.type === 'string') return tensor; // its values are in the header
    const data = new ARRAYS[tensor.type](buffer, offset, tensor.size / ARRAYS[tensor.type].BYTES_PER_ELEMENT);
    offset += roundUp(tensor.size);
    return { ...tensor, data };
  });
  return [header, read, new Uint8Array(buffer, offset)];
}

function pack({ tensors = [], ...header }) {
  const written = tensors.map(({ name, type, dims, data }) =>
    type === 'string' ? { name, type, dims, data: Array.from(data) } : { name, type, dims, size: data.byteLength });
  const text = new TextEncoder().encode(JSON.stringify({ ...header, tensors: written }));
  const sizes = tensors.map(({ type, data }) => (type === 'string' ? 0 : roundUp(data.byteLength)));
  const body = new Uint8Array(sizes.reduce((sum, size) => sum + size, roundUp(START + text.length)));
  new DataView(body.buffer).setUint32(0, text.length, true);
  body.set(text, START);
  let offset = roundUp(START + text.length);
  tensors.forEach(({ type, data }, k) => {
    if (type !== 'string') body.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
    offset += sizes[k];
  });
  return body;
}

// WebGPU: the log says which operator is computed, and errors do not.
let operator = '';
function watchLog() {
  for (const level of ['log', 'info', 'debug', 'warn', 'error']) {
    console[level] = (...words) => (operator = /Starting program "(\w+)/.exec(words.join(' '))?.[1] ?? operator);
  }
}

const STEPS = { load, open, run };

// Answers until nobody asks any more. `address` is the server's, with the token that it wants.
export async function serve(address) {
  for (;;) {
    const response = await fetch(`${address}/question`);
    if (response.status === 204) continue; // nothing to do for now
    const [header, tensors, rest] = unpack(await response.arrayBuffer());
    let answer;
    operator = '';
    try {
      answer = pack(await STEPS[header.step](header, tensors, rest));
    } catch (error) {
      answer = pack({ error: String(error?.message ?? error), operator });
    }
    await fetch(`${address}/answer`, { method: 'POST', body: answer });
  }
}
