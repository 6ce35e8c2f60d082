// onnxruntime-web in node: node node.mjs ADDRESS. It ends when nobody answers at that address any more.
if (!globalThis.fetch) {
  console.error(`node 18 or later is required, and this is ${process.version}`);
  process.exit(1);
}
const { serve } = await import('./session.mjs');
try {
  await serve(process.argv[2]);
} catch (error) {
  console.error(String(error?.cause?.message ?? error?.message ?? error));
  process.exit(1);
}
