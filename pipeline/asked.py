"""What the rows of a plan are asked where they say nothing themselves: prompts, parameters, the schema.

A plan is text and numbers; here they become what reading its rows needs: templates that are compiled, a
schema that is ready to be held against an answer.
"""

from __future__ import annotations

from pipeline.errors import SchemaError
from pipeline.manifest import Defaults
from pipeline.plan import Plan
from pipeline.templates import as_template
from pipeline.typed.schema import AnswerSchema


def defaults_of(plan: Plan) -> Defaults:
    """
    Raises:
        PromptError: a template is broken.
        SchemaError: the schema is none.
    """
    insists = []
    if plan.anew is not None:
        insists = [name for name in ("prompt", "system") if getattr(plan.anew, name) is not None]
    return Defaults(
        model=plan.model,
        prompt=as_template(plan.prompt, "the prompt"),
        parameters=plan.parameters,
        system=None if plan.system is None else as_template(plan.system, "the system prompt"),
        schema=schema_of(plan),
        insists=frozenset(insists),
        image_max_px=plan.image_max_px,
    )


def schema_of(plan: Plan) -> AnswerSchema | None:
    """
    Raises:
        SchemaError: what run.json holds is no schema (any more).
    """
    if plan.schema is None:
        return None
    try:
        return AnswerSchema.of(plan.schema)
    except SchemaError as error:
        raise SchemaError(f"the schema of run {plan.run_id}: {error}") from None
