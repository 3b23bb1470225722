"""What the Python shops share: the commands, and what a page must show."""
import json
import sys
import time

PAUSE_S = 0.01  # a visitor's; without it a page view would be shorter than any sample of lag
ITEMS = 20


class Shop:
    """list_items() -> [(id, stock)], detail(id) -> (stock, number of orders), order(id) -> (stock, orders) as read back."""

    def __init__(self):
        self.stock, self.orders = {}, {}  # what this program knows to be true: only it writes

    def visit(self, n):
        """One list page and one detail page. How many of the two were wrong."""
        item = n % ITEMS + 1
        listed = dict(self.list_items())
        wrong = listed.get(item) != self.stock.get(item, 100)
        time.sleep(PAUSE_S)
        shown = self.detail(item)
        time.sleep(PAUSE_S)
        return wrong + (shown != (self.stock.get(item, 100), self.orders.get(item, 0)))

    def buy(self, item):
        self.stock[item] = self.stock.get(item, 100) - 1
        self.orders[item] = self.orders.get(item, 0) + 1
        return self.order(item) != (self.stock[item], self.orders[item])

    def run(self):
        item = 0
        for line in sys.stdin:
            command, *arguments = line.split()
            if command == "pages":
                wrong = sum(self.visit(n) for n in range(int(arguments[0])))
            else:
                item = item % ITEMS + 1
                wrong = self.buy(item)
            print(json.dumps({"wrong": int(wrong)}), flush=True)
