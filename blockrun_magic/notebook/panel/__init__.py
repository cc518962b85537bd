"""The panel: the studio for the mouse, built from core ipywidgets."""
