"""The arguments of an endpoint: parameters, body, dependencies, in the order in which FastAPI takes them.

A dependency whose own parameters are wrong is not called; the others are, and all errors are told together.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi.security import SecurityScopes

from eagleray._user_code.compiled import framework, generators
from eagleray._user_code.compiled.plan import ASYNC, GENERATOR, Node
from eagleray._user_code.compiled.run import Run, in_thread


async def solve(node: Node, run: Run) -> tuple[dict[str, Any], list[Any]]:
    """Values of all parameters of a function, and what is wrong with the request."""
    values: dict[str, Any] = {}
    errors: list[Any] = []
    for sub in node.subs:
        used = _overridden(sub, run) if run.plan.overridden() else sub
        sub_values, sub_errors = await solve(used, run) if used.needs_loop(run) else solve_leaf(used, run)
        if sub_errors:
            errors += sub_errors
            continue
        if sub.use_cache and sub.cache_key in run.cache:
            solved = run.cache[sub.cache_key]
        else:
            solved = await _call(used, run, sub_values, in_function=sub.in_function)
        if sub.name is not None:
            values[sub.name] = solved
        if sub.cache_key not in run.cache:
            run.cache[sub.cache_key] = solved
    if not node.parameters.is_empty:
        node.parameters.collect(run.request, values, errors)
    if node.body is not None:
        if run.plan.is_form:
            found, wrong = await framework.body_values(
                body_fields=node.dependant.body_params, received_body=run.body, embed_body_fields=node.embed
            )
            values.update(found)
            errors += wrong
        else:
            node.body.collect(run.body, values, errors)
    if node.injects:
        _inject(node, run, values)
    return values, errors


def solve_leaf(node: Node, run: Run) -> tuple[dict[str, Any], list[Any]]:
    """The same for a function without dependencies, if the body is no form: nothing in it waits."""
    values: dict[str, Any] = {}
    errors: list[Any] = []
    if not node.parameters.is_empty:
        node.parameters.collect(run.request, values, errors)
    if node.body is not None:
        node.body.collect(run.body, values, errors)
    if node.injects:
        _inject(node, run, values)
    return values, errors


def _overridden(node: Node, run: Run) -> Node:
    """What is called in the place of a dependency: a test, or an earlier dependency, has just said so."""
    made = framework.override(node.dependant, run.plan.overrides)
    return Node(made, node.embed)


async def _call(node: Node, run: Run, values: dict[str, Any], *, in_function: bool) -> Any:
    if node.kind == GENERATOR:
        of_request, of_function = run.stacks()
        stack = of_function if in_function else of_request
        if node.is_async_generator and node.concurrency is None:
            return await generators.enter(run, node.call, values, stack)
        run.scope["fastapi_inner_astack"] = of_request
        return await framework.enter_generator(
            request=run.request, dependant=node.dependant, stack=stack, sub_values=values
        )
    if node.concurrency is None:
        return await _call_now(node, values)
    async with node.concurrency.get_semaphore():
        return await _call_now(node, values)


async def _call_now(node: Node, values: dict[str, Any]) -> Any:
    if node.kind == ASYNC:
        return await node.call(**values)
    return await in_thread(partial(node.call, **values))


def _inject(node: Node, run: Run, values: dict[str, Any]) -> None:
    """What a function gets because of the type of a parameter."""
    if node.connection_name:
        values[node.connection_name] = run.request
    if node.request_name:
        values[node.request_name] = run.request
    if node.background_name:
        values[node.background_name] = run.tasks()
    if node.response_name:
        values[node.response_name] = run.sub_response()
    if node.scopes_name:
        values[node.scopes_name] = SecurityScopes(scopes=list(node.scopes))
