"""What the services of this shop window share: a bounded queue, batches, and how long requests took."""
