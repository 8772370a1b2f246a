"""Which runner owns which shard: membership, leases, the assignment, and taking and giving shards."""
