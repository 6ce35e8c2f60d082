// Runs an ONNX file in onnxruntime-web, in Node.js: node infer.mjs PACKAGE MODEL INPUTS OUTPUTS, the last two being folders of .npy files.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [library, model, inputs, outputs] = process.argv.slice(2);
const ort = await import(pathToFileURL(`${library}/dist/ort.node.min.mjs`));

function read(path) {
  const bytes = readFileSync(path);
  const end = 10 + bytes.readUInt16LE(8);
  const dims = /'shape': \(([^)]*)\)/.exec(bytes.toString("latin1", 10, end))[1].split(",").filter((d) => d.trim());
  return new ort.Tensor("float32", new Float32Array(new Uint8Array(bytes.subarray(end)).buffer), dims.map(Number));
}

function write(path, tensor) {
  const shape = `(${tensor.dims.join(", ")}${tensor.dims.length === 1 ? "," : ""})`;
  let header = `{'descr': '<f4', 'fortran_order': False, 'shape': ${shape}, }`;
  header += " ".repeat(63 - ((10 + header.length) % 64)) + "\n";
  const start = Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 255, header.length >> 8]);
  writeFileSync(path, Buffer.concat([start, Buffer.from(header), Buffer.from(tensor.data.buffer)]));
}

const session = await ort.InferenceSession.create(readFileSync(model));
const feeds = Object.fromEntries(session.inputNames.map((name, n) => [name, read(`${inputs}/input_${n}.npy`)]));
const results = await session.run(feeds);
session.outputNames.forEach((name, n) => write(`${outputs}/output_${n}.npy`, results[name]));
