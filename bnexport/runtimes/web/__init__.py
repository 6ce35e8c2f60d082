"""onnxruntime-web (node and Chromium)."""
