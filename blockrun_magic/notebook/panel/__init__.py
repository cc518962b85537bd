"""The panel: the studio with the mouse, made of core ipywidgets."""
