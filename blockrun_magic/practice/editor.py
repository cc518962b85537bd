from __future__ import annotations
from blockrun_magic.practice.painter import paint
def edit(prompt, model, sources, mask, size, index=0): return paint(prompt, model, size, index)
