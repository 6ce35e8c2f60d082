// onnxruntime-web in node. The first line of standard input is the address of the server; it ends with its standard input.
import { createInterface } from 'node:readline';

if (!globalThis.fetch) {
  console.error(`node 18 or later is required, and this is ${process.version}`);
  process.exit(1);
}
const { serve } = await import('./session.mjs');
const lines = createInterface({ input: process.stdin });
lines.on('close', () => process.exit(0));
try {
  await serve(await new Promise((resolve) => lines.once('line', resolve)));
} catch (error) {
  console.error(String(error?.cause?.message ?? error?.message ?? error));
  process.exit(1);
}
