"""``python -m reverie.models`` writes the index of models anew."""

from __future__ import annotations

from reverie.models import discover, write_index

if __name__ == "__main__":
    path = write_index()
    print(f"{path.name}: {', '.join(discover())}")
