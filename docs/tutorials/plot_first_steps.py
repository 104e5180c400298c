"""
First steps
===========

Train a variational autoencoder on real handwriting, ask how good it is, and use it: from Python, in a minute. Every
line here has its twin on the command line (``reverie --help``).
"""

# %%
# Train
# -----
# The data are 1,797 handwritten digits of 8 by 8 pixels, made binary. One call trains; what comes back is a *run*, a
# folder that holds everything: settings, weights, curves, and the hash of the data.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import reverie

here = Path(tempfile.mkdtemp())
run = reverie.train("vae", data="digits", preset="digits", epochs=60, run=here / "vae")
print(run)

# %%
# How good is it?
# ---------------
# Not a bare number but a record: the kind of number it is, its standard error over the test rows, and how it was
# computed. A VAE's log-likelihood has no formula; averaging 500 importance weights gives a lower bound.

number = run.evaluate(samples=500)["log_likelihood"]
print(number)

# %%
# Is that good? A model that knows only how often each pixel is on gives a scale. It is exact, so its kind is too.

train, test = run.data.rows("train"), run.data.rows("test")
p = np.clip(train.mean(axis=0), 0.01, 0.99)
columns = reverie.Estimate.of_rows(
    (test * np.log(p) + (1 - test) * np.log1p(-p)).sum(axis=1), kind="exact", estimator="independent columns"
)
print(columns)

# %%
# New digits
# ----------
# ``mean=True`` gives the probability of each pixel, which is kinder to the eye than a draw of it.


def show(pictures: np.ndarray, rows: int, title: str) -> None:
    """Lay pictures out in a grid of `rows` rows."""
    figure, axes = plt.subplots(rows, len(pictures) // rows, figsize=(8, 1.1 * rows), squeeze=False)
    for axis, picture in zip(axes.flat, pictures, strict=True):
        axis.imshow(picture.reshape(8, 8), cmap="gray_r", interpolation="nearest")
        axis.axis("off")
    figure.suptitle(title)


show(run.sample(30, mean=True), 3, "thirty digits that nobody wrote")

# %%
# Missing pixels
# --------------
# Hide the left half of ten test digits and let the model fill it in: encode, decode, keep what is known, a hundred
# times over. Where the mask is True the pixel is known.

digits = run.data.restore(test[:10]).reshape(-1, 8, 8)
known = np.ones_like(digits, dtype=bool)
known[:, :, :4] = False
filled = run.impute(digits, known)
show(np.concatenate([digits, np.where(known, digits, 0.0), filled]), 3, "as written, what is left, filled in")

# %%
# The odd ones
# ------------
# Each row's own log-likelihood finds what the model has not seen: here, upside-down digits among upright ones.

upright = run.data.restore(test[:100]).reshape(-1, 8, 8)
scores = run.score(np.concatenate([upright, upright[:, ::-1]]), samples=100)
figure, axis = plt.subplots(figsize=(8, 2.5))
axis.hist([scores.values[:100], scores.values[100:]], bins=25, label=["upright", "upside down"])
axis.set_xlabel("log-likelihood, nats")
axis.legend(frameon=False)

# %%
# A memory
# --------
# MEM-VAE is the same kind of model with a memory that its decoder reads. Is it better on these digits? Both are scored
# on the same rows, so it is the paired difference that counts, and whether its interval holds zero.

memory = reverie.train("mem-vae", data="digits", preset="digits", epochs=60, run=here / "mem-vae")
print(memory.evaluate(samples=500)["log_likelihood"])
for pair, gap in reverie.compare(memory, run).items():
    print(f"{pair}: {gap['difference']:.2f} nats, 95 % interval {gap['low']:.2f} to {gap['high']:.2f}")

# %%
# And now
# -------
# ``reverie report`` makes one page of all of this; ``reverie memory`` looks into the memory; :doc:`/data` says how to
# bring your own.

plt.show()
