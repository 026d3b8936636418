"""The body of every node in the benchmarks: it does nothing, so that what is left is ours."""


async def body() -> dict[str, int]:
    return {"i": 1}
