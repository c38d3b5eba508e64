"""The data of `lorestream demo`: a simulated village.

    village.py  the events of one day, and questions with known answers

A typical call:

    for event in village.events(seed=1):
        ...  # in the form of POST /v1/events
    for question in village.questions(seed=1):
        print(question.agent_id, question.query, question.gold)  # gold: event ids of the expected answer
"""
