"""Analysis as tables, figures, pages and sections of documents."""
