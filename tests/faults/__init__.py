"""The fault laboratory: real servers, real workers, and somebody who breaks them."""
