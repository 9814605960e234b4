"""Answers of models that are not prose: reasoning in the forms that servers leave in, and refusals beside captions that
only speak of them."""

import json

import pytest

from goku_cli.chat.answer import read_answer
from goku_cli.chat.asking import read_completion
from goku_cli.chat.reasoning import without_reasoning
from goku_cli.chat.refusal import is_refusal
from goku_cli.errors import Cause, Fault

DOG = "A brown dog runs across a lawn."
LOUD = "The user wants a caption. A dog, maybe a cat? It is a dog."


@pytest.mark.parametrize(
    "text",
    [
        f"{LOUD}\n</think>\n\n{DOG}",
        f"<think>{LOUD}</think>{DOG}",
        f"<think>a<think>{LOUD}</think>c</think>{DOG}",
        f"<think>{LOUD}</think>{LOUD}</think>{DOG}",
        f"<thinking depth='2'>{LOUD}</thinking>\n{DOG}",
        f"<seed:think>{LOUD}</seed:think>{DOG}",
        f"<thought>{LOUD}</thought>{DOG}",
        f"\u25c1think\u25b7{LOUD}\u25c1/think\u25b7{DOG}",
        f"[THINK]{LOUD}[/THINK]{DOG}",
        f"<|START_THINKING|>{LOUD}<|END_THINKING|><|START_RESPONSE|>{DOG}<|END_RESPONSE|>",
        f"<|begin_of_thought|>{LOUD}<|end_of_thought|>{DOG}",
        f"<think>{LOUD}</think><answer><|begin_of_box|>{DOG}<|end_of_box|></answer>",
        f"<answer>{DOG}</answer><think>{LOUD}</think>",
        f"{DOG} <think>{LOUD}",
        f"<|channel|>analysis<|message|>{LOUD}<|end|><|start|>assistant<|channel|>final<|message|>{DOG}<|return|>",
        f"analysis{LOUD}assistantfinal{DOG}",
        f"<think>{LOUD * 500}</think>{DOG}",
        f"<unused94>thought\n{LOUD}<unused95>{DOG}",
        f"<longcat_think>{LOUD}</longcat_think>{DOG}",
        f"<mm:think>{LOUD}</mm:think>{DOG}",
        f"[BEGIN OF THOUGHT]{LOUD}[END OF THOUGHT]{DOG}",
        f"**Reasoning:** {LOUD}\n\n**Caption:** {DOG}",
        f"Thinking Process:\n1. {LOUD}\n\nFinal Answer: {DOG}",
        f"<think>{LOUD}</think>\n\\boxed{{{DOG}}}",
        f"<|im_start|>assistant\n{DOG}<|im_end|>",
        f"{DOG}\n\nWould you like me to describe the frames one by one?",
        f"{DOG} Let me know if you need more detail!",
    ],
)
def test_reasoning_is_no_part_of_a_caption(text):
    assert read_answer(text) == DOG


@pytest.mark.parametrize("text", [f"<think>{LOUD}", f"<|channel|>analysis<|message|>{LOUD}", f"{LOUD}</think>"])
def test_reasoning_alone_is_no_answer(text):
    with pytest.raises(Fault) as caught:
        read_answer(text)
    assert caught.value.cause == Cause.ANSWER


@pytest.mark.parametrize("text", ["None", "N/A", "null", "[no caption]", "**undefined**"])
def test_a_word_for_nothing_is_no_caption(text):
    with pytest.raises(Fault) as caught:
        read_answer(text)
    assert caught.value.cause == Cause.ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "Two kids think; a sign reads a < b and c > d, <b>analysis</b> of 2 * 3.",
        "Analysis: a slide with three bars.\nThe answer is written below.",
        "A page titled Thoughts: a list, and under it Caption: none.",
    ],
)
def test_words_that_only_look_like_reasoning_stay(text):
    assert without_reasoning(text) == text


def test_what_is_asked_in_the_picture_is_no_offer():
    text = 'A poster asks passers-by, "Would you like me to help you?" in red.'
    assert read_answer(text) == text and read_answer("None of the seats is taken.") == "None of the seats is taken."


@pytest.mark.parametrize(
    ("message", "finish", "says"),
    [
        ({"content": DOG}, "stop", DOG),
        ({"content": DOG}, None, DOG),
        ({"content": [{"type": "reasoning", "text": LOUD}, {"type": "text", "text": DOG}]}, "stop", DOG),
        ({"content": f"{DOG} It ju"}, "length", DOG),
        ({"content": f"{DOG} It ju"}, "MAX_TOKENS", DOG),
        ({"content": "A man walks along the"}, "content_filter", Cause.REFUSED),
        ({"content": "A man walks along the"}, "content_filter: PROHIBITED_CONTENT", Cause.REFUSED),
        ({"content": "A man walks along the"}, "abort", Cause.ANSWER),
        ({"content": None, "refusal": "That is against the rules."}, "stop", Cause.REFUSED),
        ({"content": None, "tool_calls": []}, "tool_calls", Cause.ANSWER),
        ({"content": None, "reasoning_content": LOUD}, "stop", Cause.ANSWER),
    ],
)
def test_what_an_answer_ended_with_decides(message, finish, says):
    completion = read_completion(json.dumps({"choices": [{"message": message, "finish_reason": finish}]}))
    if isinstance(says, str) and not isinstance(says, Cause):
        assert completion.caption() == says
    else:
        with pytest.raises(Fault) as caught:
            completion.caption()
        assert caught.value.cause == says


REFUSALS = """
I'm sorry, but I can't assist with describing this image.
I'm sorry, I can't help with that.
I am sorry, but I cannot identify the people in this video.
Sorry, but I can't.
Sorry, but the frames are too dark to make anything out.
Unfortunately, this image is not clear enough to describe.
The assistant cannot describe people in this footage.
error: rate limit exceeded
Error 503: server overloaded
Sorry, I can't help with this request.
I cannot describe this image.
I can't see the video you mention.
I can't provide a description of this content.
I won't assist with this.
I'm unable to view images directly.
I am not able to process videos.
I'm not comfortable describing this scene.
I don't have access to the video.
I do not have the ability to watch videos.
I don't see any image in your message.
I did not receive a video.
I apologize, but this is private.
I must decline to describe this picture.
Unfortunately, I am not able to see it.
Unfortunately, I can't view this video.
Unfortunately I cannot comply with that.
As an AI, I see.
I'm just an AI and can't see the frames.
As a language model, I have no eyes, so my answer would be a guess.
No image was provided.
No video is attached.
There are no frames attached.
There is no image provided with this request.
It seems no image was uploaded.
You haven't attached an image.
Please provide the video first.
Please upload the image so that I can describe it.
This request violates our policies.
The image may violate the content guidelines.
Your request cannot be processed.
**I'm sorry, but I can't help with identifying people.**
抱歉，我无法查看这张图片。
我无法描述这个视频。
申し訳ありませんが、この画像を説明することはできません。
Lo siento, pero no puedo ayudar con eso.
Désolé, je ne peux pas décrire cette image.
Es tut mir leid, aber ich kann dieses Bild nicht beschreiben.
""".strip().split("\n")

CAPTIONS = """
A sign reads "I can't breathe".
A sorry dog cannot reach the ball.
The assistant cannot reach the top shelf and looks for a ladder.
The frames are too dark to show more than a lamp and a hand.
An error: the sign says "exit" above a wall.
There are no pictures visible on the white wall behind the woman, who reads a book.
Unfortunately, I missed the train, says the subtitle while a man runs along the platform.
"I'm sorry, I can't help you," says a shopkeeper to a boy.
"I cannot describe it," reads the caption of a silent film.
No image hangs on the wall of the empty gallery.
No frames are left on the wall, only nails.
No people are visible on the beach.
There is no picture frame on the desk.
There is no one in the room.
No video game console is in the picture; two boys play chess.
An AI assistant is shown on a screen that says it is unable to answer.
As an aircraft lands, a crowd waves.
As an artist paints, a cat watches.
Please provide feedback, reads a form on a tablet.
A woman apologizes to a man who declines to shake hands.
A protester holds a poster: this image violates my rights.
This video shows a man who cannot open a door.
The image cannot be mistaken: it is the Eiffel Tower at dusk.
The content creator speaks into a microphone.
I-beams are lifted by a crane at a building site.
I Love Lucy plays on a small television.
I can see a red bus that passes a church.
In this video, a man says he can't continue and sits down.
The request to stop is written on a red sign.
Sorry! is written on the lid of a board game.
Afraid of heights, a man crosses a bridge on his knees.
A letter on the desk begins with: I regret to inform you.
Your majesty, reads a card beside a crown.
一只红色的狐狸在雪地里奔跑。
Ein Hund kann nicht über den Zaun springen.
Un perro corre por el parque.
""".strip().split("\n")


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_told(text):
    assert is_refusal(text)
    with pytest.raises(Fault) as caught:
        read_answer(text)
    assert caught.value.cause == Cause.REFUSED


@pytest.mark.parametrize("text", CAPTIONS)
def test_captions_that_hold_such_words_are_captions(text):
    assert not is_refusal(text)
    assert read_answer(text)
