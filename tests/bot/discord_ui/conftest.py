from hypothesis import settings

# A machine that trains at the same time is slow, and that is no failure of a property.
settings.register_profile("any-speed", deadline=None)
settings.load_profile("any-speed")
