"""What `tiercache report` gathers (`gather` makes a `record`), and shows: as `text`, `data` or a `page`."""
