"""Networks that are trained on images, by name, and batched augmentation and resampling."""
