"""One module per chapter: measurements that belong to that chapter alone. Tables in, tables out."""
