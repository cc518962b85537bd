"""The x402 protocol: requirements, payloads and signatures."""
