"""Commands whose words may begin with a dash: negative numbers, and values that look like options."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from typer.core import TyperCommand

_NEGATIVE_NUMBER = re.compile(r"-\.?[0-9]")


class ValuesCommand(TyperCommand):
    """After the first word that is no option, each word that is no option of this command is a value.

    A negative number is a value everywhere, and so is every word after `--`. Options may stand before and after.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the options first, so that the parser takes nothing else for one."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        return super().parse_args(ctx, _options_first(args, self.get_params(ctx)))


def _options_first(args: list[str], parameters: list[Any]) -> list[str]:
    takes_value = {name: not option.is_flag for option in _options(parameters) for name in option.opts}
    places = [argument.nargs for argument in parameters if argument.param_type_name == "argument"]
    values_max = math.inf if -1 in places else sum(places)
    options: list[str] = []
    values: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, _ = word.partition("=")
        if word == "--":
            values += words
        elif name in takes_value:
            options.append(word)
            if takes_value[name] and not equals:
                value = next(words, None)
                if value is None:
                    # Nothing may follow, or the parser would take it for the value that is missing.
                    return options
                options.append(value)
        elif len(word) < 2 or word[0] != "-" or _NEGATIVE_NUMBER.match(word) or 0 < len(values) < values_max:
            values.append(word)
        else:
            # The parser refuses it, and names the nearest option.
            options.append(word)
    return [*options, "--", *values]


def _options(parameters: list[Any]) -> Iterator[Any]:
    return (parameter for parameter in parameters if parameter.param_type_name == "option")
