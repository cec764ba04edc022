# The users service of a Python guide: create publishes to Redis, read checks a token.
import json
import os
from typing import Dict

import jwt
import redis.asyncio as redis
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBearer
from pydantic import BaseModel

app = FastAPI(title="User Service", version="1.0.0")
security = HTTPBearer()
secret = os.environ["SECRET"]
bus = redis.Redis(port=int(os.environ["REDIS_PORT"]))


class UserCreate(BaseModel):
    name: str
    email: str


class User(BaseModel):
    id: int
    name: str
    email: str


users: Dict[int, User] = {}


def current_user(token=Depends(security)) -> dict:
    try:
        return jwt.decode(token.credentials, secret, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(status_code=401, detail="Invalid token")


@app.post("/users/", response_model=User, status_code=201)
async def create_user(user: UserCreate):
    made = User(id=len(users) + 1, **user.dict())
    users[made.id] = made
    await bus.publish("events", json.dumps({"type": "user.created", "data": made.dict()}))
    return made


@app.get("/users/{user_id}", response_model=User)
async def get_user(user_id: int, who: dict = Depends(current_user)):
    if user_id not in users:
        raise HTTPException(status_code=404, detail="User not found")
    return users[user_id]


@app.get("/health")
async def health():
    return {"status": "ok"}
