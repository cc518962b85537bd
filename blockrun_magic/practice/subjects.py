from __future__ import annotations
def paint_subjects(canvas, scene, horizon): pass
