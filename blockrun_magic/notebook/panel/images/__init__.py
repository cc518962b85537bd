"""The images of the panel: the stage, the gallery and the actions."""
