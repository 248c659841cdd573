"""An async function counts as a function, and a nested one too."""

import asyncio


async def main():
    async def greet(name):
        await asyncio.sleep(0)
        return f"Hello, {name}"

    print(await asyncio.gather(greet("Ada"), greet("Grace")))


asyncio.run(main())
