"""One run: setup, trainer, callbacks, checkpoints, kernels, worker process."""
