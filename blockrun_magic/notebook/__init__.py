"""What the user touches: magics, cards and the bridge between a cell and the studio."""
