"""What tiercache is for other frameworks: a package each, which needs that framework's own package."""
