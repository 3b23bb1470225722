"""The shop in Django 3.2 or later, with the settings of startproject, and each page a request of its own."""
import json
import sys
from io import BytesIO

import django
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": sys.argv[1],
                           "NAME": "app", "USER": "app_scram", "PASSWORD": "secret",
                           "CONN_MAX_AGE": int(sys.argv[2]) if len(sys.argv) > 2 else 0}},
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], USE_TZ=True, TIME_ZONE="UTC", SECRET_KEY="only a test",
    DEFAULT_AUTO_FIELD="django.db.models.AutoField")
django.setup()

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.db import models, transaction  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from shop import Shop  # noqa: E402


class Item(models.Model):
    name = models.TextField()
    stock = models.IntegerField()

    class Meta:
        app_label, db_table = "shop", "shop_item"


class Order(models.Model):
    item = models.ForeignKey(Item, models.CASCADE)

    class Meta:
        app_label, db_table = "shop", "shop_order"


def list_view(request):
    return JsonResponse([[i.id, i.stock] for i in Item.objects.order_by("id")[:20]], safe=False)


def shown(item_id):
    item = Item.objects.get(pk=item_id)
    return JsonResponse([item.stock, Order.objects.filter(item=item).count()], safe=False)


def detail_view(request, item_id):
    return shown(item_id)


def order_view(request, item_id):
    with transaction.atomic():
        item = Item.objects.select_for_update().get(pk=item_id)
        item.stock -= 1
        item.save()
        Order.objects.create(item=item)
    return shown(item_id)


urlpatterns = [path("", list_view), path("item/<int:item_id>", detail_view), path("order/<int:item_id>", order_view)]


class DjangoShop(Shop):
    handler = WSGIHandler()

    def get(self, url):
        status = []
        response = self.handler({"REQUEST_METHOD": "GET", "PATH_INFO": url, "SERVER_NAME": "shop", "SERVER_PORT": "80",
                                 "wsgi.input": BytesIO(), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"},
                                lambda line, headers: status.append(line))
        try:
            assert status == ["200 OK"], status
            return json.loads(b"".join(response))
        finally:
            response.close()

    def list_items(self):
        return self.get("/")

    def detail(self, item):
        return tuple(self.get(f"/item/{item}"))

    def order(self, item):
        return tuple(self.get(f"/order/{item}"))


DjangoShop().run()
