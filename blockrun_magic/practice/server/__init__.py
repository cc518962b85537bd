"""The practice gateway: an x402 image server on this machine."""
