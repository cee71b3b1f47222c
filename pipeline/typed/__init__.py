"""Typed answers: a JSON Schema that the answers of a run keep to.

    schema.py      a schema as a run needs it: what is sent, what is said, what is checked
    flattening.py  any JSON Schema → the flat form that gateways pass on
    answers.py     an answer's text → the JSON value in it that is valid, or what is wrong
    remedies.py    how a model is asked for a schema, and what is said where that did not do
    columns.py     valid answers → one typed column; its type is made from the schema alone
    sources.py     a file, or a pydantic model → the schema's document

Owns what *typed* means; refuses HTTP. `dialects` puts a schema into a body, `analyze` has an answer checked,
and `store` writes the column.
"""
