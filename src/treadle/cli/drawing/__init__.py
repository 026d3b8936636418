"""Diagrams as pictures: `treadle render`. What is drawn (`picture`), where (`layers`), and how: `svg`,
`mermaid`, and `lanes` for terminals."""
