"""The shop in SQLAlchemy 1.4 or later: the default engine and pool over psycopg2, a session per page."""
import sys

from shop import Shop
from sqlalchemy import Column, ForeignKey, Integer, Text, create_engine, func, select
from sqlalchemy.orm import declarative_base, sessionmaker

engine = create_engine(f"postgresql+psycopg2://app_scram:secret@127.0.0.1:{sys.argv[1]}/app")
Session = sessionmaker(engine)
Base = declarative_base()


class Item(Base):
    __tablename__ = "shop_item"
    id = Column(Integer, primary_key=True)
    name = Column(Text)
    stock = Column(Integer)


class Order(Base):
    __tablename__ = "shop_order"
    id = Column(Integer, primary_key=True)
    item_id = Column(ForeignKey(Item.id))


class AlchemyShop(Shop):
    def list_items(self):
        with Session() as session:
            return [(i.id, i.stock) for i in session.scalars(select(Item).order_by(Item.id).limit(20))]

    def detail(self, item):
        with Session() as session:
            orders = session.scalar(select(func.count(Order.id)).where(Order.item_id == item))
            return session.get(Item, item).stock, orders

    def order(self, item):
        with Session.begin() as session:
            session.get(Item, item, with_for_update=True).stock -= 1
            session.add(Order(item_id=item))
        return self.detail(item)


AlchemyShop().run()
