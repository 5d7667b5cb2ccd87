"""The model as an ONNX graph, and the engine that runs it without torch."""
