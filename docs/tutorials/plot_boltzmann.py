"""
Boltzmann machines
==================

Train a restricted Boltzmann machine, bracket its likelihood from both sides, watch its chains, let it complete half
digits, and turn it into a classifier that stands beside baselines: on the embedded digits, in a minute or two.

The same on MNIST, from the command line (tens of minutes on two cores; nothing of it is run here)::

    reverie train rbm --data mnist --preset paper --select last
    reverie evaluate runs/rbm-mnist-1 --tolerance 0.5
    reverie sample runs/rbm-mnist-1 --sweeps 5000 --tempered 10 --picture chains.png --out samples.png
    reverie impute runs/rbm-mnist-1 --input mnist --mask half --out completed.npy
    reverie classify runs/rbm-mnist-1
    reverie report runs/rbm-mnist-1
"""

# %%
# Train
# -----
# Twenty hidden units on 64 pixels, by persistent chains: `chain` names where the model's averages come from (``cd``,
# ``pcd``, ``fpcd``, ``pt``, ``tempered``). No derivative is taken: the gradient is the statistics of the data less
# those of the chains.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import reverie

here = Path(tempfile.mkdtemp())
run = reverie.train("rbm", data="digits", preset="digits", chain="pcd", epochs=100, run=here / "rbm")
print(run)

# %%
# How good is it, exactly?
# ------------------------
# The states of twenty units can be counted, so that log Z, and with it the log-likelihood, is exact.

exact = run.evaluate()["log_likelihood"]
print(exact)
print(*run.log_z().lines(), sep="\n")

# %%
# And if it could not be counted?
# -------------------------------
# Then chains are annealed between a law that is known exactly and the model. Forwards they give an end of log Z that
# is too low in expectation, which makes the likelihood too *good*. From the other side RAISE walks the same path
# backwards from rows, and reverse annealing from the model's states. The number is the bracket between them, and says
# UNRELIABLE where the two sides do not meet. Here they do: all three ends are within a few hundredths of a nat, their
# Monte Carlo errors, of the counted value.

print(run.evaluate(estimator="ais")["log_likelihood"])
print(*run.log_z().lines(), sep="\n")
for end in run.log_z().rounds[-1].ends:
    print(f"{end.name:8} {end.value:8.3f} +- {end.error:.3f}  {end.kind} of log Z")

# %%
# Chains
# ------
# Every draw is the end of a chain of its own. A row of the picture is a chain, from the base law on the left; later
# sweeps are to the right. With ``tempered=5`` each has five temperatures whose neighbours swap, so that it leaves a
# mode that Gibbs sweeps alone would stay in.


def show(pictures: np.ndarray, rows: int, title: str) -> None:
    """Lay pictures out in a grid of `rows` rows."""
    figure, axes = plt.subplots(rows, len(pictures) // rows, figsize=(8, 1.1 * rows), squeeze=False)
    for axis, picture in zip(axes.flat, pictures, strict=True):
        axis.imshow(picture.reshape(8, 8), cmap="gray_r", interpolation="nearest")
        axis.axis("off")
    figure.suptitle(title)


draws = run.sample(20, mean=True, sweeps=500, tempered=5, picture=here / "chains.png")
show(draws, 2, "twenty digits that nobody wrote")
figure, axis = plt.subplots(figsize=(8, 5))
axis.imshow(plt.imread(here / "chains.png"), cmap="gray")
axis.set_title("chains over time")
axis.axis("off")

# %%
# Completion
# ----------
# The known pixels are held, Gibbs sweeps draw the others, and the second half of the sweeps is averaged.

test = run.data.rows("test")
digits = run.data.restore(test[:10]).reshape(-1, 8, 8)
known = np.ones_like(digits, dtype=bool)
known[:, :, 4:] = False
filled = run.impute(digits, known, iterations=200)
show(np.concatenate([digits, np.where(known, digits, 0.0), filled]), 3, "as written, what is left, completed")

# %%
# A classifier, beside baselines
# ------------------------------
# The hidden units become the first layer of a network, which learns the classes. Beside it stand scikit-learn's
# methods on the same rows, chosen on the same validation rows, and each error with its 95 % interval. The control
# ``from_scratch``, the same network from random weights, tells what the machine's features are worth here.

run.classify(baselines="none", from_scratch=True)
found = run.classify(baselines="logistic,knn,features")
for one in found["results"]:
    share = f"{100 * one['test'].value:5.2f} %  [{100 * one['low']:.2f}, {100 * one['high']:.2f}]"
    print(f"{one['title']:28} {share}")

# %%
# Twenty units were chosen to be counted, not to tell classes: ``hidden=500`` is better at that, and its likelihood is
# a bracket. A deep machine learns in stages of one run, and brings q(h2 given v) to its classifier::
#
#     reverie train dbm --data digits --hidden 100,50 --pretrain.epochs 20
#     reverie classify runs/dbm-digits-1
#
# ``reverie report`` makes one page of all of this; :doc:`/numbers` says what each end promises.

plt.show()
