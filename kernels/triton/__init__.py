"""The Triton kernels, each right above its launcher; its modules are imported only where they can run."""

# An operation's name is that of its module here, of `kernels.<name>`, and of its tests.
KERNELS = (
    "rms_norm",
    "rotary",
    "swiglu",
    "partial_lora",
    "fixed_linear",
    "pixel_tiles",
    "tree_attention",
    "step_scores",
)
