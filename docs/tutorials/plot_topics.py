"""
From a folder of texts to topics
================================

Text files in, topics, perplexity and retrieval out, with the Replicated Softmax: a Boltzmann machine of word counts,
whose topics multiply where a mixture's can only average. On one's own folder it is five commands::

    reverie data letters
    reverie train replicated-softmax --data letters
    reverie evaluate runs/replicated-softmax-letters-1
    reverie topics runs/replicated-softmax-letters-1 --lda
    reverie retrieve runs/replicated-softmax-letters-1 --query question.txt
"""

# %%
# A folder of text files
# ----------------------
# A subfolder is a class; without subfolders there is everything but the curves of retrieval. These texts are synthetic
# documents of six themes that come with reverie, written to files here to stand for yours.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import reverie
from reverie import data as data_floor

here = Path(tempfile.mkdtemp())
corpus = data_floor.load("tiny-text")
rows, themes = corpus.rows("train"), corpus.labels("train")
for number, (counts, theme) in enumerate(zip(rows, themes, strict=True)):
    place = here / "letters" / corpus.class_names[int(theme)]
    place.mkdir(parents=True, exist_ok=True)
    text = " ".join(np.repeat(corpus.columns, counts.astype(int)))
    (place / f"{number}.txt").write_text(text, encoding="utf-8")

# %%
# What was understood
# -------------------
# Read it before training: which words were chosen, how long the documents are, how they are split. For other words,
# count them yourself and give a sparse matrix (:doc:`/data`).

data = data_floor.load(here / "letters")
print(*data.notes, sep="\n")

# %%
# Train
# -----
# At most 25 topics can be counted, and the likelihood is then exact; with more, each length of document has a bracket
# of its own. Small corpora, which have few steps in an epoch, learn faster at a larger rate.

run = reverie.train("replicated-softmax", data=here / "letters", hidden=12, rate=0.02, epochs=100, run=here / "topics")

# %%
# Perplexity
# ----------
# Of the words of test documents that were not learnt from, beside that of a model that knows only how often each word
# occurs. The log-likelihood is that of the counts, given the document's length.

for name, record in run.evaluate().items():
    print(f"{name}: {record}")

# %%
# Topics as words
# ---------------
# A unit that is on makes some words likelier. ``active`` says how often it is on over the test documents, ``npmi`` how
# often its words really occur together.

found = run.topics(8, lda=True)
for topic in found["topics"]:
    print(f"{topic['unit']:2}  on {topic['active']:.2f}  NPMI {topic['npmi']:+.2f}  {' '.join(topic['words'])}")
print(f"perplexity of LDA with as many topics: {found['lda']}")

# %%
# Units multiply: which three make a word likeliest together, and what a mixture of the same three would give it.

raised = run.topics(8, raising="star")["raise"]
print(f"units {raised['units']}: together {raised['probability']:.3f}, as a mixture {raised['mixture']:.3f}")

# %%
# Retrieval
# ---------
# A query is a file, or texts, or the number of a test document. Words that the model does not know are left out, and
# that is said.

(query,) = run.retrieve(["a comet and a rocket passed the moon"], top=5)["queries"]
for document in query["documents"]:
    print(f"{document['cosine']:.3f}  {document['class']:8} {' '.join(document['words'])}")

# %%
# With classes, every test document is a query, and a document of its class is a find. Codes of twelve numbers stand
# beside tf-idf, which keeps every word.

curves = run.retrieve()["curves"]
figure, axis = plt.subplots(figsize=(6, 4))
axis.plot(curves["recall"], curves["precision"], "o-", label="codes of 12 units")
axis.plot(curves["tf_idf_recall"], curves["tf_idf_precision"], "s--", label="tf-idf")
axis.set_xlabel("recall")
axis.set_ylabel("precision")
axis.legend(frameon=False)

# %%
# And now
# -------
# ``reverie report`` makes one page of topics, curves and both ends of log Z; ``--data 20news`` is a real corpus;
# :doc:`/numbers` says what each number promises.

plt.show()
