"""The painter of practice images."""
