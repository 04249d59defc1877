"""The application of `routes_app`, below CORS middleware."""

from fastapi.middleware.cors import CORSMiddleware
from routes_app import app

app.add_middleware(CORSMiddleware, allow_origins=["*"])
