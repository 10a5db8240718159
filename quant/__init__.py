"""From tensors to quantized files: which tensor gets which type, importance, the encoders."""
