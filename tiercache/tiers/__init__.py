"""The tiers that come with tiercache, and `EncodedTier`, which makes one of any byte store."""
