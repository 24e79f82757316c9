# SPDX-License-Identifier: MIT
"""Charts as SVG, both axes logarithmic: lines of several subjects over sizes of blocks."""
import html
import math

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 130, 20, 45
COLOURS = ("#c1272d", "#0b6e99", "#2e7d32", "#e08e0b", "#6a3d9a", "#795548", "#00897b", "#5c6bc0",
           "#9e9d24", "#455a64")


def text(x, y, words, anchor="middle", colour="#333", more=""):
    return ('<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s" %s>%s</text>'
            % (x, y, anchor, colour, more, html.escape(words)))


def line(x1, y1, x2, y2, colour="#ddd"):
    return ('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>'
            % (x1, y1, x2, y2, colour))


class Scale:
    """From a figure to a place, by logarithm."""

    def __init__(self, values, start, end):
        low, high = math.log10(min(values)), math.log10(max(values))
        if high - low < 1e-9:
            low, high = low - 0.5, high + 0.5
        self.low, self.high, self.start, self.end = low, high, start, end

    def at(self, value):
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def decades(self):
        return [10.0**n for n in range(math.ceil(self.low), math.floor(self.high) + 1)]


def chart(series, x_name, y_name, x_label, y_label):
    """series: {subject: [(x, y)]}, all above 0; the labels are functions of a figure."""
    points = [p for line_points in series.values() for p in line_points]
    if not points:
        return "<p>not measured</p>"
    x_scale = Scale([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_scale = Scale([y for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = []
    for y in y_scale.decades():
        parts.append(line(LEFT, y_scale.at(y), WIDTH - RIGHT, y_scale.at(y)))
        parts.append(text(LEFT - 6, y_scale.at(y) + 4, y_label(y), "end"))
    xs = sorted({x for x, _ in points})
    for x in xs[::max(1, len(xs) // 8)]:
        parts.append(line(x_scale.at(x), TOP, x_scale.at(x), HEIGHT - BOTTOM, "#f0f0f0"))
        parts.append(text(x_scale.at(x), HEIGHT - BOTTOM + 16, x_label(x)))
    ends = []
    for index, (name, line_points) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        places = [(x_scale.at(x), y_scale.at(y)) for x, y in sorted(line_points)]
        parts.append('<polyline fill="none" stroke="%s" stroke-width="%s" points="%s"/>'
                     % (colour, 3 if index == 0 else 1.5,
                        " ".join("%.1f,%.1f" % p for p in places)))
        parts += ['<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>' % (*p, colour) for p in places]
        if places:
            ends.append((places[-1][1], name, colour))
    parts += names(ends)
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_name))
    parts.append(text(14, HEIGHT / 2, y_name, more='transform="rotate(-90 14 %d)"' % (HEIGHT / 2)))
    return ('<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-size="12" '
            'font-family="sans-serif">%s</svg>' % (WIDTH, HEIGHT, WIDTH, HEIGHT, "".join(parts)))


def names(ends):
    """Beside the last point of each line, moved apart where they would overlap."""
    parts, last = [], -100.0
    for y, name, colour in sorted(ends):
        last = max(y + 4, last + 13)
        parts.append(text(WIDTH - RIGHT + 8, last, name, "start", colour))
    return parts
