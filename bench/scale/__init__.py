"""What a site far larger than this machine needs: real dispatcher, simulated workers."""
