"""The images of the panel: the stage, the gallery and what can be done with an image."""
