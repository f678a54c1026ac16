"""Flows that are not Python functions: commands in any language, files of vectors, ONNX models."""
